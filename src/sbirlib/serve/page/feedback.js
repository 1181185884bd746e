/** Yes and no to a photo, where the server keeps such answers: with them an encoder can be trained further. */

import { announce, element } from "./dom.js";
import { title } from "./photo.js";

/** @import { Card } from "./card.js" */
/** @import { Query } from "./search.js" */
/** @import { Server } from "./server.js" */

export class Feedback {
  wanted = false; // until the server says that it keeps answers
  #server;

  /** @param {Server} server */
  constructor(server) {
    this.#server = server;
  }

  /**
   * Put both buttons below a photo, or take them away: an answer belongs to a drawing.
   * @param {Card} card
   * @param {Query} query
   */
  attach(card, { content: { strokes }, reference }) {
    card.node.querySelector(".feedback")?.remove();
    if (!this.wanted || strokes.length === 0 || reference?.share === 0) return;
    const buttons = /** @type {const} */ (["yes", "no"]).map((answer) => {
      const [text, label] = answer === "yes" ? ["Yes", "Yes: I drew this"] : ["No", "No: I did not draw this"];
      const names = { "aria-label": `${label}, ${title(card.hit)}`, "aria-pressed": false };
      const button = element("button", { type: "button", className: "quiet small", ...names }, text);
      button.addEventListener("click", () => send(answer));
      return button;
    });
    const send = async (/** @type {"yes" | "no"} */ answer) => {
      const press = (/** @type {string | null} */ pressed) => {
        buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent?.toLowerCase() === pressed)));
      };
      press(answer);
      try {
        await this.#server.post("feedback", { drawing: { strokes }, id: card.hit.id, answer });
        announce("Thank you.");
      } catch {
        press(null);
        announce("Your answer was not kept. Please try again.");
      }
    };
    card.node.append(element("div", { className: "feedback" }, ...buttons));
  }
}

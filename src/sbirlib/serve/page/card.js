/** One photo among the results: thumbnail, caption, and yes and no where the server keeps such answers. */

import { element } from "./dom.js";
import { photoFrame, title } from "./photo.js";

/** @import { Hit, Server } from "./server.js" */

export class Card {
  /** @type {Hit} */ hit;

  /**
   * @param {Hit} hit
   * @param {Server} server
   */
  constructor(hit, server) {
    this.button = element("button", { type: "button", className: "card-photo" }, photoFrame(hit, "thumbnail", server));
    this.caption = element("p", { className: "caption" }, element("span", {}, String(hit.record.category ?? hit.name)));
    this.score = element("span", { className: "score" });
    this.caption.append(this.score);
    this.node = element("li", { className: "card" }, this.button, this.caption);
    this.hit = hit;
    this.show(hit);
  }

  /** Show the hit's place in another answer; its thumbnail stays, so nothing flickers. */
  show(/** @type {Hit} */ hit) {
    this.hit = hit;
    this.score.textContent = hit.score.toFixed(2);
    this.button.setAttribute("aria-label", `Photo ${hit.rank}: ${title(hit)}, score ${hit.score.toFixed(2)}`);
  }
}

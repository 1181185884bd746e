/** The line above the page that says when the server is away, and other news of the whole page. */

import { byId, element } from "./dom.js";

/** @import { Server } from "./server.js" */

/**
 * Tell of the server's troubles.
 * @param {Server} server
 * @returns {(sentence: string) => void} a function that shows a sentence
 */
export function watch(server) {
  const notice = byId("notice");
  const again = element("button", { type: "button", className: "quiet small" }, "Try now");
  again.addEventListener("click", () => server.hurry());
  let shown = "";
  const show = (/** @type {string} */ sentence, /** @type {HTMLElement[]} */ ...more) => {
    if (sentence === shown) return; // a live region says it once
    shown = sentence;
    notice.replaceChildren(...(sentence ? [element("span", {}, sentence), ...more] : []));
  };
  server.addEventListener("trouble", () => show(server.trouble, again));
  server.addEventListener("fine", () => show(""));
  return (sentence) => show(sentence);
}

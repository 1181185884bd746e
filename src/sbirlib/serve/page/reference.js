/** The bar of a search for photos like a photo, with the share of the drawing, and the way back. */

import { byId } from "./dom.js";
import { photoFrame } from "./photo.js";

/** @import { Search } from "./search.js" */
/** @import { Server } from "./server.js" */

/**
 * @param {Search} search
 * @param {Server} server
 */
export function showReference(search, server) {
  const slider = /** @type {HTMLInputElement} */ (byId("share"));
  let shownId = "";

  const show = () => {
    const { reference, content } = search.wanted;
    byId("reference").hidden = !reference;
    if (!reference) return;
    if (reference.id !== shownId) {
      shownId = reference.id;
      byId("reference-photo").replaceChildren(photoFrame({ ...reference, record: {}, rank: 0, score: 0 }, "thumbnail", server));
    }
    const hasDrawing = content.strokes.length > 0;
    const share = hasDrawing ? reference.share : 0;
    byId("reference-title").textContent = `Photos like ${reference.name || "this one"}${share > 0 ? ", but as you draw" : ""}`;
    byId("reference-hint").textContent = hasDrawing ? "" : "Draw something, and it is mixed in.";
    byId("share-label").classList.toggle("off", !hasDrawing);
    slider.disabled = !hasDrawing;
    slider.valueAsNumber = 100 * share;
    slider.setAttribute("aria-valuetext", `${Math.round(100 * share)} % drawing`);
  };

  search.addEventListener("query", show);
  slider.addEventListener("input", () => {
    const { reference } = search.wanted;
    if (!reference) return;
    search.soon({ reference: { ...reference, share: slider.valueAsNumber / 100 } });
    show();
  });
  byId("reference-close").addEventListener("click", () => {
    search.now({ reference: null });
    byId("results").focus({ preventScroll: true });
  });
}

/** A photo large, with its record, and the searches that begin from it. */

import { breakable, byId, element, words } from "./dom.js";
import { photoFrame } from "./photo.js";

/** @import { Hit, Server, Value } from "./server.js" */
/** @import { Results } from "./results.js" */
/** @import { Search } from "./search.js" */

/**
 * @param {Results} results
 * @param {Search} search
 * @param {Server} server
 */
export function showPhotos(results, search, server) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("photo"));
  const previous = byId("photo-previous");
  const next = byId("photo-next");
  const mixed = /** @type {HTMLButtonElement} */ (byId("photo-mixed"));
  /** @type {Hit | null} */ let hit = null;

  const place = () => results.hits.findIndex(({ id }) => id === hit?.id);
  const arrows = () => { // not disabled: a button that is would lose the focus
    previous.setAttribute("aria-disabled", String(place() <= 0));
    next.setAttribute("aria-disabled", String(place() + 1 >= results.hits.length));
  };
  const show = (/** @type {number} */ number) => {
    if (!results.hits[number]) return;
    hit = results.hits[number];
    const { content } = search.wanted;
    byId("photo-name").replaceChildren(...breakable(hit.name));
    byId("photo-picture").replaceChildren(photoFrame(hit, "photo", server));
    byId("photo-record").replaceChildren(...record(hit));
    mixed.disabled = content.strokes.length === 0;
    byId("photo-hint").textContent = !mixed.disabled ? "" : content.picture
      ? "A picture cannot be mixed with a photo. Draw on the sheet instead."
      : "Draw something first, to mix it with this photo.";
    arrows();
    if (number + 3 >= results.hits.length) search.more(); // before the last photo is reached
  };
  const begin = (/** @type {number} */ share) => {
    if (!hit) return;
    const { id, name } = hit;
    dialog.close();
    search.now({ reference: { id, name, share } });
    results.focus();
  };

  results.addEventListener("open", (event) => {
    show(/** @type {CustomEvent<number>} */ (event).detail);
    dialog.showModal();
  });
  for (const type of ["answer", "more"]) search.addEventListener(type, arrows);
  previous.addEventListener("click", () => show(place() - 1));
  next.addEventListener("click", () => show(place() + 1));
  dialog.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft") previous.click();
    if (key === "ArrowRight") next.click();
  });
  byId("photo-similar").addEventListener("click", () => begin(0));
  mixed.addEventListener("click", () => begin(0.5));
}

/**
 * The record of a photo as terms and descriptions.
 * @param {Hit} hit
 */
function record({ rank, score, record }) {
  /** @type {[string, Value][]} */
  const rows = [["place", rank], ["score", score.toFixed(3)], ...Object.entries(record)];
  return rows
    .filter(([, value]) => value !== null)
    .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, words(value))));
}

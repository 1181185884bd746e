/** The page's address, which holds the search at all times, and the button that copies it. */

import { byId, toast } from "./dom.js";
import { fromFragment, toFragment } from "./link.js";

/** @import { Linked } from "./link.js" */
/** @import { Search } from "./search.js" */

/**
 * @param {Search} search
 * @param {(linked: Linked) => void} restore  called when someone enters another link in the same tab
 */
export function keepAddress(search, restore) {
  search.addEventListener("query", () => {
    const { content: { strokes }, where, reference } = search.query;
    const fragment = toFragment({ strokes, where, reference });
    try {
      history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
    } catch {
      // browsers limit how often an address changes; the next search changes it
    }
  });
  addEventListener("hashchange", () => restore(linked()));
  byId("copy-link").addEventListener("click", () => copy(search.query.content.picture !== null));
}

/** The search that the address holds. */
export function linked() {
  return fromFragment(location.hash.slice(1));
}

/** @param {boolean} isPicture */
async function copy(isPicture) {
  try {
    await navigator.clipboard.writeText(location.href);
    toast(isPicture ? "The link is copied. A picture does not fit into it; the filters do." : "The link is copied. It holds this search.");
  } catch {
    toast("Please copy the address of this page: it holds this search."); // over plain HTTP, or forbidden
  }
}

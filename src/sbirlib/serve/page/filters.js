/** Filters: for each field a list of its values with their counts, to be ticked. */

import { byId, element } from "./dom.js";
import { ValueList } from "./values.js";

/** @import { Fields, Where } from "./server.js" */

/** Fires "change" when other photos pass. */
export class Filters extends EventTarget {
  /** @type {Map<string, ValueList>} */ #lists = new Map();
  /** @type {Where} */ #restored = {}; // until the fields are known
  #clear = element("button", { type: "button", className: "link", hidden: true }, "Clear filters");

  constructor() {
    super();
    this.#clear.addEventListener("click", () => {
      this.restore({});
      this.focus();
      this.dispatchEvent(new Event("change"));
    });
    document.addEventListener("pointerdown", ({ target }) => {
      for (const { node } of this.#lists.values()) {
        if (!node.contains(/** @type {Node} */ (target))) node.open = false;
      }
    });
  }

  /** @returns {Where} */
  get where() {
    if (this.#lists.size === 0) return this.#restored;
    const chosen = [...this.#lists].map(([field, list]) => /** @type {const} */ ([field, list.chosen]));
    return Object.fromEntries(chosen.filter(([, values]) => values.length > 0));
  }

  /**
   * Offer the fields that a filter makes sense for: neither one value for all photos nor one for each.
   * @param {Fields} fields
   */
  offer(fields) {
    const wish = this.#restored;
    const useful = Object.entries(fields).filter(([, { distinct, values }]) => distinct > 1 && (values[0].count > 1 || distinct <= 12));
    for (const [name, field] of useful) {
      const list = new ValueList(name, field);
      list.addEventListener("change", () => this.#changed());
      this.#lists.set(name, list);
    }
    byId("filters").replaceChildren(...[...this.#lists.values()].map(({ node }) => node), this.#clear);
    this.restore(wish);
    if (JSON.stringify(this.where) !== JSON.stringify(wish)) this.dispatchEvent(new Event("change")); // an old link's field is gone
  }

  /** @param {Where} where */
  restore(where) {
    this.#restored = where;
    for (const [field, list] of this.#lists) list.choose(where[field] ?? []);
    this.#clear.hidden = Object.keys(this.where).length === 0;
  }

  /** Move the focus to the first filter. */
  focus() {
    const [first] = this.#lists.values();
    (first?.summary ?? byId("results")).focus();
  }

  #changed() {
    this.#clear.hidden = Object.keys(this.where).length === 0;
    this.dispatchEvent(new Event("change"));
  }
}

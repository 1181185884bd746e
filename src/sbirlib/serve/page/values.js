/** The values of one field as a drop-down list of checkboxes, searchable where there are many. */

import { element, readable, words } from "./dom.js";

/** @import { Fields, Value } from "./server.js" */

const FEW = 8; // values that need no search

/** Fires "change" when other values are ticked. */
export class ValueList extends EventTarget {
  /** @type {Map<Value, {row: HTMLElement, box: HTMLInputElement}>} */ #rows = new Map();
  #badge = element("span", { className: "badge", hidden: true });
  #list = element("ul");
  #field;

  /**
   * @param {string} name
   * @param {Fields[string]} field
   */
  constructor(name, field) {
    super();
    this.#field = field;
    const label = name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
    this.summary = element("summary", {}, label, this.#badge);
    const panel = element("div", { className: "panel", role: "group", "aria-label": label }, this.#list);
    this.node = element("details", { className: "filter", name: "filter" }, this.summary, panel);
    if (field.distinct > FEW) panel.prepend(this.#search(label));
    for (const { value, count } of field.values) this.#add(value, readable(count));
    this.node.addEventListener("toggle", () => this.#place(panel));
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.node.open) return;
      event.preventDefault();
      this.node.open = false;
      this.summary.focus();
    });
  }

  /** @returns {Value[]} */
  get chosen() {
    return [...this.#rows].filter(([, { box }]) => box.checked).map(([value]) => value);
  }

  /**
   * Tick these values and no other; one that is not among the listed most frequent ones gets a row.
   * @param {Value[]} values
   */
  choose(values) {
    for (const value of values) if (!this.#rows.has(value)) this.#add(value, "");
    for (const [value, { box }] of this.#rows) box.checked = values.includes(value);
    this.#count();
  }

  /**
   * @param {Value} value
   * @param {string} count
   */
  #add(value, count) {
    const box = element("input", { type: "checkbox" });
    box.addEventListener("change", () => {
      this.#count();
      this.dispatchEvent(new Event("change"));
    });
    const row = element("li", {}, element("label", {}, box, element("span", {}, words(value)), element("span", { className: "muted" }, count)));
    this.#rows.set(value, { row, box });
    this.#list.append(row);
  }

  /**
   * Put the open list below its button; the style keeps it on the page.
   * @param {HTMLElement} panel
   */
  #place(panel) {
    if (!this.node.open) return;
    panel.style.setProperty("--left", `${this.summary.offsetLeft}px`);
    panel.style.setProperty("--top", `${this.summary.offsetTop + this.summary.offsetHeight}px`);
    panel.scrollIntoView({ block: "nearest" });
  }

  #count() {
    const { length } = this.chosen;
    this.#badge.hidden = length === 0;
    this.#badge.textContent = String(length);
  }

  /** @param {string} label */
  #search(label) {
    const { distinct, values } = this.#field;
    const input = element("input", { type: "search", placeholder: `Search ${readable(distinct)} values`, "aria-label": `Search in ${label}` });
    const rest = distinct > values.length
      ? element("p", { className: "muted" }, `The ${readable(values.length)} most frequent are listed. For another, type its whole name and press Enter.`)
      : "";
    input.addEventListener("input", () => {
      const wish = input.value.trim().toLowerCase();
      for (const [value, { row }] of this.#rows) row.hidden = !words(value).toLowerCase().includes(wish);
    });
    input.addEventListener("keydown", ({ key }) => {
      if (key === "Enter" && input.value.trim()) this.#take(input.value.trim());
    });
    return element("div", { className: "panel-head" }, input, rest);
  }

  /**
   * Tick the value that was typed, or the only one that is left of the list.
   * @param {string} text
   */
  #take(text) {
    const seen = [...this.#rows].filter(([, { row }]) => !row.hidden).map(([value]) => value);
    const exact = [...this.#rows.keys()].find((value) => words(value).toLowerCase() === text.toLowerCase());
    const numeric = this.#field.values.every(({ value }) => typeof value === "number");
    const other = this.#field.distinct > this.#field.values.length ? (numeric ? Number(text) : text) : undefined;
    const value = exact ?? (seen.length === 1 ? seen[0] : seen.length === 0 ? other : undefined);
    if (value === undefined || Number.isNaN(value)) return;
    this.choose([...new Set([...this.chosen, value])]);
    this.dispatchEvent(new Event("change"));
  }
}

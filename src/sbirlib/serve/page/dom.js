/** Elements of the page: look them up, make them. */

/**
 * The element of an id that index.html has.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  return /** @type {T} */ (document.getElementById(id));
}

/**
 * Make an element. Children that are strings become text and are never read as HTML, because names and records of photos come from strangers.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} [properties]  properties of the element; those it does not have become attributes
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) Object.assign(node, { [name]: value });
    else node.setAttribute(name, String(value));
  }
  node.append(...children);
  return node;
}

/**
 * Have screen readers say a sentence, once the present one has been said.
 * @param {string} sentence
 */
export function announce(sentence) {
  byId("live").textContent = sentence;
}

let toastTimer = 0;

/**
 * Show a sentence at the foot of the page for a while.
 * @param {string} sentence
 */
export function toast(sentence) {
  const node = byId("toast");
  node.textContent = sentence;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { node.textContent = ""; }, 5000);
}

/**
 * A number as people write it, such as 1,234.
 * @param {number} number
 */
export function readable(number) {
  return number.toLocaleString("en");
}

/**
 * "1 photo", "2 photos".
 * @param {number} count
 */
export function photos(count) {
  return `${readable(count)} ${count === 1 ? "photo" : "photos"}`;
}

/**
 * A value of a photo's record as a person reads it.
 * @param {unknown} value
 */
export function words(value) {
  return value === null ? "none" : value === true ? "yes" : value === false ? "no" : String(value);
}

/**
 * A file's name that may be broken after its punctuation rather than anywhere.
 * @param {string} name
 * @returns {(Node | string)[]}
 */
export function breakable(name) {
  return name.split(/(?<=[_.\-\s])/).flatMap((part) => [part, element("wbr")]);
}

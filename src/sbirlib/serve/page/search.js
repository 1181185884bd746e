/** The search of the page: what is asked, when, and the answers in their order; the latest question alone is answered. */

import { EMPTY } from "./history.js";
import { Refusal } from "./server.js";

/** @import { Content } from "./history.js" */
/** @import { Reference } from "./link.js" */
/** @import { Answer, Server, Where } from "./server.js" */

/** @typedef {{content: Content, where: Where, reference: Reference | null}} Query */

const PAGE = 24; // photos of one answer, where the server allows so many: a multiple of 2, 3, 4 and 6 columns
const QUIET = 150; // milliseconds after the last stroke

/**
 * Fires "query" when a search begins, "answer" with its first photos, "more" with further ones, "failure" when the server refuses it, and
 * "busy" when the wait for the first photos begins or ends. A request is aborted once its query is an old one, and its answer is never shown.
 */
export class Search extends EventTarget {
  /** @type {Query} */ wanted = { content: EMPTY, where: {}, reference: null }; // the next search
  /** @type {Query} */ query = this.wanted; // of the present answer, or of the one that is being waited for
  /** @type {Answer | null} */ answer = null; // the latest
  /** @type {Refusal | null} */ refusal = null;
  limits = { k: PAGE, depth: PAGE }; // until the server tells them: photos of one answer, and photos that scrolling reaches
  busy = false; // with the first photos of a search
  #server;
  #shown = 0;
  #growing = false; // a request for further photos is on its way
  #current = new AbortController();
  #timer = 0;

  /** @param {Server} server */
  constructor(server) {
    super();
    this.#server = server;
  }

  /** Whether there is something to search for. */
  get isBlank() {
    const { content, reference } = this.query;
    return !content.picture && content.strokes.length === 0 && !reference;
  }

  /** Whether scrolling brings further photos. */
  get hasMore() {
    return this.answer !== null && this.answer.hits.length > 0 && this.#shown < Math.min(this.answer.total, this.limits.depth);
  }

  /**
   * Search for something else, once the person rests for a moment.
   * @param {Partial<Query>} changes
   */
  soon(changes) {
    this.wanted = { ...this.wanted, ...changes };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), QUIET);
  }

  /**
   * Search for something else, at once.
   * @param {Partial<Query>} changes
   */
  now(changes) {
    this.wanted = { ...this.wanted, ...changes };
    this.#run();
  }

  /** The next photos of the present search. */
  async more() {
    if (this.#growing || !this.hasMore) return;
    this.#growing = true;
    await this.#ask(this.#shown, "more");
  }

  async #run() {
    clearTimeout(this.#timer);
    this.#current.abort();
    this.#current = new AbortController();
    this.#shown = 0;
    this.#growing = false;
    this.answer = this.refusal = null;
    this.query = this.wanted;
    this.dispatchEvent(new Event("query"));
    this.#setBusy(!this.isBlank);
    if (!this.isBlank) await this.#ask(0, "answer");
  }

  /**
   * @param {number} offset
   * @param {"answer" | "more"} type
   */
  async #ask(offset, type) {
    const { signal } = this.#current;
    const { k, depth } = this.limits;
    try {
      const { path, body } = request(this.query, offset, Math.min(PAGE, k, depth - offset));
      const answer = await this.#server.post(path, body, signal);
      if (signal.aborted) return;
      this.#rest();
      this.answer = answer;
      this.#shown = offset + answer.hits.length;
      this.dispatchEvent(new Event(type));
    } catch (error) {
      if (signal.aborted) return; // of an old query: the new one is at work now
      this.#rest();
      this.refusal = error instanceof Refusal ? error : new Refusal(0, "Something went wrong on this page. Please load it anew.");
      this.dispatchEvent(new Event("failure"));
    }
  }

  #rest() {
    this.#growing = false;
    this.#setBusy(false);
  }

  #setBusy(/** @type {boolean} */ busy) {
    this.busy = busy;
    this.dispatchEvent(new Event("busy"));
  }
}

/**
 * @param {Query} query
 * @param {number} offset
 * @param {number} k
 * @returns {{path: string, body: Blob | object}}
 */
function request({ content: { strokes, picture }, where, reference }, offset, k) {
  if (reference) {
    const { id, share } = reference;
    const mixture = strokes.length > 0 && share > 0 ? { drawing: { strokes }, share } : {};
    return { path: `similar/${encodeURIComponent(id)}`, body: { k, offset, where, ...mixture } };
  }
  if (!picture) return { path: "search", body: { drawing: { strokes }, k, offset, where } };
  const parameters = new URLSearchParams({ k: String(k), offset: String(offset) });
  for (const [field, values] of Object.entries(where)) {
    for (const value of values) parameters.append("where", `${field}=${value}`);
  }
  return { path: `search?${parameters}`, body: picture.blob };
}

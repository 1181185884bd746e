/** Undo and redo: the contents of a sheet, each a value that never changes. */

/** @import { Stroke } from "./strokes.js" */
/** @import { Picture } from "./picture.js" */

/**
 * Strokes, or a picture that somebody dropped, pasted or photographed; never both.
 * @typedef {{readonly strokes: readonly Stroke[], readonly picture: Picture | null}} Content
 */

/** @type {Content} */
export const EMPTY = Object.freeze({ strokes: [], picture: null });
const LONGEST = 300; // contents that can be undone

export class History {
  /** @type {Content[]} */ #past = [];
  /** @type {Content[]} */ #future = [];
  /** @type {Content} */ present = EMPTY;

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** @param {Content} content */
  push(content) {
    this.#past.push(this.present);
    this.#past.splice(0, this.#past.length - LONGEST);
    this.#future = [];
    this.present = content;
  }

  undo() {
    this.#step(this.#past, this.#future);
  }

  redo() {
    this.#step(this.#future, this.#past);
  }

  /**
   * @param {Content[]} from
   * @param {Content[]} to
   */
  #step(from, to) {
    const content = from.pop();
    if (!content) return;
    to.push(this.present);
    this.present = content;
  }
}

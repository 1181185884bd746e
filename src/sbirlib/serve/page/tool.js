/** Pen and eraser, each with a width of its own, and their buttons. */

import { announce, byId } from "./dom.js";

const LEAST = -4, MOST = 8; // half powers of two

/** Fires "change" when the tool or its width is another. */
export class Tool extends EventTarget {
  erase = false;
  usual = 0.012; // width of the pen as a share of the sheet's side, until the server says what its encoder was trained on
  #steps = { pen: 0, eraser: 5 };
  #slider = /** @type {HTMLInputElement} */ (byId("width"));

  constructor() {
    super();
    byId("pen").addEventListener("click", () => this.take(false));
    byId("eraser").addEventListener("click", () => this.take(true));
    this.#slider.addEventListener("input", () => this.#set(this.#slider.valueAsNumber));
    this.#show();
  }

  get width() {
    return Math.round(1e4 * Math.min(0.5, this.usual * 2 ** (this.#step / 2))) / 1e4;
  }

  /** @param {number} width */
  setUsual(width) {
    this.usual = width;
    this.#show();
  }

  /** @param {boolean} erase */
  take(erase) {
    this.erase = erase;
    this.#show();
  }

  /** Change the width by some steps, and say it. */
  widen(/** @type {number} */ steps) {
    this.#set(Math.min(MOST, Math.max(LEAST, this.#step + steps)));
    announce(`Width ${this.#slider.getAttribute("aria-valuetext")}`);
  }

  get #step() {
    return this.erase ? this.#steps.eraser : this.#steps.pen;
  }

  #set(/** @type {number} */ step) {
    this.#steps[this.erase ? "eraser" : "pen"] = step;
    this.#show();
  }

  #show() {
    byId("pen").setAttribute("aria-pressed", String(!this.erase));
    byId("eraser").setAttribute("aria-pressed", String(this.erase));
    this.#slider.valueAsNumber = this.#step;
    this.#slider.setAttribute("aria-valuetext", `${(100 * this.width).toFixed(1)} % of the sheet`);
    this.dispatchEvent(new Event("change"));
  }
}

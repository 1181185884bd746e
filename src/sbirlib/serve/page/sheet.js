/** The sheet: its content with undo, the stroke that is being drawn, and the canvas that shows both. */

import { EMPTY, History } from "./history.js";
import { paint, paintStroke } from "./painter.js";
import { mirrored } from "./picture.js";
import { countPoints, finished, mirror } from "./strokes.js";

/** @import { Point, Stroke } from "./strokes.js" */
/** @import { Content } from "./history.js" */
/** @import { Picture } from "./picture.js" */

/**
 * Fires "change" when the content is another, "draw" when a stroke begins, "cancel" when it comes to nothing, and "full" when it no longer fits
 * the limits.
 */
export class Sheet extends EventTarget {
  limits = { strokes: 2000, points: 20000 };
  #canvas;
  #context;
  #history = new History();
  /** @type {Stroke | null} */ #stroke = null;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
    new ResizeObserver(() => this.#resize()).observe(canvas);
    addEventListener("resize", () => this.#resize()); // zooming changes the pixels, not the size
  }

  /** @returns {Content} */
  get content() {
    return this.#history.present;
  }

  get isEmpty() {
    return !this.content.picture && this.content.strokes.length === 0;
  }

  get canUndo() {
    return this.#history.canUndo;
  }

  get canRedo() {
    return this.#history.canRedo;
  }

  /** @param {Stroke} stroke */
  isDrawing(stroke) {
    return stroke === this.#stroke;
  }

  /**
   * Begin a stroke; one that is being drawn by other means ends here.
   * @param {Point} point
   * @param {{width: number, erase: boolean}} tool
   * @returns {Stroke} the handle for extend, end and cancel, which do nothing once the stroke is over
   */
  begin(point, { width, erase }) {
    if (this.#stroke) this.end(this.#stroke);
    const stroke = this.#stroke = { points: [point], width, erase };
    if (this.content.picture) this.#paint(); // the stroke starts anew, on a white sheet
    paintStroke(this.#context, stroke);
    this.dispatchEvent(new Event("draw"));
    return stroke;
  }

  /**
   * @param {Stroke} stroke
   * @param {Point[]} points
   */
  extend(stroke, points) {
    if (stroke !== this.#stroke || points.length === 0) return;
    const from = stroke.points.length;
    stroke.points.push(...points);
    paintStroke(this.#context, stroke, from);
  }

  /** @param {Stroke} stroke */
  end(stroke) {
    if (stroke !== this.#stroke) return;
    this.#stroke = null;
    const strokes = [...this.content.strokes, ...finished(stroke)];
    if (strokes.length > this.limits.strokes || countPoints(strokes) > this.limits.points) {
      this.#paint();
      this.dispatchEvent(new Event("full"));
    } else if (strokes.length > this.content.strokes.length) {
      this.#push({ strokes, picture: null });
    }
  }

  /** @param {Stroke | null} stroke */
  cancel(stroke = this.#stroke) {
    if (!stroke || stroke !== this.#stroke) return;
    this.#stroke = null;
    this.#paint();
    this.dispatchEvent(new Event("cancel"));
  }

  undo() {
    this.cancel();
    if (!this.canUndo) return;
    this.#history.undo();
    this.#changed();
  }

  redo() {
    this.cancel();
    if (!this.canRedo) return;
    this.#history.redo();
    this.#changed();
  }

  clear() {
    this.cancel();
    if (!this.isEmpty) this.#push(EMPTY);
  }

  async mirror() {
    this.cancel();
    const { content } = this;
    if (!content.picture) {
      if (!this.isEmpty) this.#push({ ...content, strokes: mirror(content.strokes) });
      return;
    }
    const picture = await mirrored(content.picture).catch(() => null); // where memory is short
    if (picture && content === this.content) this.#push({ strokes: [], picture }); // nothing else was done meanwhile
  }

  /** @param {Picture} picture */
  show(picture) {
    this.cancel();
    this.#push({ strokes: [], picture });
  }

  /**
   * Show strokes in place of all there is.
   * @param {Stroke[]} strokes
   */
  replace(strokes) {
    this.cancel();
    if (strokes.length > 0 || !this.isEmpty) this.#push({ strokes, picture: null });
  }

  /** @param {Content} content */
  #push(content) {
    this.#history.push(content);
    this.#changed();
  }

  #changed() {
    this.#paint();
    this.dispatchEvent(new Event("change"));
  }

  #paint() {
    const stroke = this.#stroke;
    paint(this.#context, stroke && this.content.picture ? EMPTY : this.content);
    if (stroke) paintStroke(this.#context, stroke);
  }

  /** As many pixels as the screen has; all is painted anew, a stroke that is being drawn included. */
  #resize() {
    const pixels = Math.max(1, Math.round(this.#canvas.clientWidth * devicePixelRatio));
    if (pixels === this.#canvas.width) return;
    this.#canvas.width = this.#canvas.height = pixels;
    this.#context.setTransform(pixels, 0, 0, pixels, 0, 0);
    this.#paint();
  }
}

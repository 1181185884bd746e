/** Pictures of drawings: read from a file, made small, mirrored. */

/**
 * The bytes that are searched, and the image that the sheet shows.
 * @typedef {{readonly blob: Blob, readonly image: HTMLCanvasElement}} Picture
 */

const LARGEST = 1024; // pixels of the longer side, more than any encoder looks at: a phone's photograph is ten times as large

/**
 * Read a picture of any kind that the browser can show; an error where it can show none.
 * What is sent is encoded here, so it is small, upright, and free of a photograph's metadata, such as the place where it was taken.
 * @param {Blob} file
 * @returns {Promise<Picture>}
 */
export async function readPicture(file) {
  const url = URL.createObjectURL(file);
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    return await redraw(image, image.naturalWidth || LARGEST, image.naturalHeight || LARGEST);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/**
 * Flip left to right.
 * @param {Picture} picture
 * @returns {Promise<Picture>}
 */
export function mirrored({ image }) {
  return redraw(image, image.width, image.height, true);
}

/**
 * @param {CanvasImageSource} source
 * @param {number} width
 * @param {number} height
 * @returns {Promise<Picture>}
 */
async function redraw(source, width, height, flip = false) {
  const scale = Math.min(1, LARGEST / Math.max(width, height));
  const image = document.createElement("canvas");
  image.width = Math.max(1, Math.round(width * scale));
  image.height = Math.max(1, Math.round(height * scale));
  const context = /** @type {CanvasRenderingContext2D} */ (image.getContext("2d"));
  context.imageSmoothingQuality = "high";
  if (flip) context.setTransform(-1, 0, 0, 1, image.width, 0);
  context.drawImage(source, 0, 0, image.width, image.height);
  return { blob: await encode(image), image };
}

/**
 * WebP, which is small and keeps transparency; a browser that cannot write it gives PNG, and the blob's type says so.
 * @param {HTMLCanvasElement} image
 * @returns {Promise<Blob>}
 */
function encode(image) {
  return new Promise((resolve, reject) => {
    image.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture cannot be encoded"))), "image/webp", 0.92);
  });
}

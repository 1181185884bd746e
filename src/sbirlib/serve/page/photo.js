/** A photo of the index as an image, with a skeleton while it loads and words in its place where it cannot be shown. */

import { element } from "./dom.js";

/** @import { Hit, Server } from "./server.js" */

const TRIES = 4;

/**
 * The words for a photo: its category, where it has one, and its name.
 * @param {Hit} hit
 */
export function title({ name, record }) {
  return record.category ? `${record.category}, ${name}` : name;
}

/**
 * @param {Hit} hit
 * @param {"photo" | "thumbnail"} size
 * @param {Server} server
 */
export function photoFrame(hit, size, server) {
  const path = `${size}/${encodeURIComponent(hit.id)}`;
  const image = element("img", { alt: title(hit), decoding: "async", draggable: false });
  const frame = element("span", { className: "frame loading" }, image);
  if (size === "thumbnail") image.loading = "lazy";
  image.addEventListener("load", () => frame.classList.remove("loading"));
  let tries = 0;
  image.addEventListener("error", async () => {
    const words = await trouble(path, server, ++tries);
    if (words) {
      frame.classList.remove("loading");
      frame.replaceChildren(element("span", { className: "missing" }, words));
    } else if (frame.isConnected) {
      image.src = path;
    }
  });
  image.src = path;
  return frame;
}

/**
 * Why an image did not load, in words; nothing, after a while, where it is worth another try.
 * @param {string} path
 * @param {Server} server
 * @param {number} tries
 * @returns {Promise<string | null>}
 */
async function trouble(path, server, tries) {
  const status = await fetch(path).then((answer) => answer.status, () => 0); // an image's error does not say
  if (status === 410) return "This photo is no longer there.";
  if (status === 404) return "This photo is no longer in the index.";
  if (![0, 200, 503].includes(status) || tries === TRIES) return "This photo cannot be shown.";
  await new Promise((resolve) => setTimeout(resolve, 500 * tries));
  if (status === 0) await server.back();
  return null;
}

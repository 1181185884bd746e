/** Ways for a picture of a drawing onto the sheet: dropped anywhere on the page, pasted, chosen, photographed. */

import { announce, byId, toast } from "./dom.js";
import { readPicture } from "./picture.js";

/** @import { Sheet } from "./sheet.js" */

/** @param {Sheet} sheet */
export function takePictures(sheet) {
  let latest = 0; // of two pictures the later one stays, whichever is read first
  const take = async (/** @type {FileList | undefined} */ files) => {
    const file = [...(files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return toast("That is no picture. Drop an image file, such as a PNG or a JPEG.");
    const turn = ++latest;
    try {
      const picture = await readPicture(file);
      if (turn !== latest) return;
      sheet.show(picture);
      announce("The picture is on the sheet.");
    } catch {
      if (turn === latest) toast("This picture cannot be read here. Try a PNG or a JPEG.");
    }
  };
  onDrop((files) => take(files));
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData?.files.length) take(clipboardData.files); // pasted text is for the field that has the focus
  });
  for (const name of ["picture", "camera"]) {
    const input = /** @type {HTMLInputElement} */ (byId(`${name}-file`));
    byId(name).addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      if (input.files?.length) take(input.files);
      input.value = ""; // the same file may be chosen again
    });
  }
}

/**
 * Files dropped anywhere on the page, which the browser would otherwise open in its place.
 * @param {(files: FileList | undefined) => void} take
 */
function onDrop(take) {
  const frame = byId("sheet-frame");
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    frame.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) frame.classList.remove("dropping"); // left the window, not just an element of the page
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    frame.classList.remove("dropping");
    take(event.dataTransfer?.files);
  });
}

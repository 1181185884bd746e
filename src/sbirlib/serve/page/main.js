/** The page: a sheet, a search and its results, put together. */

import { keepAddress, linked } from "./address.js";
import { showBrush } from "./brush.js";
import { closeDialogs } from "./dialogs.js";
import { byId, photos } from "./dom.js";
import { Feedback } from "./feedback.js";
import { Filters } from "./filters.js";
import { drawWithKeyboard } from "./keyboard.js";
import { watch } from "./notice.js";
import { drawWithPointer } from "./pointer.js";
import { showReference } from "./reference.js";
import { Results } from "./results.js";
import { Search } from "./search.js";
import { Server } from "./server.js";
import { Sheet } from "./sheet.js";
import { showSheet } from "./sheet-view.js";
import { listenToKeys } from "./shortcuts.js";
import { takePictures } from "./sources.js";
import { Tool } from "./tool.js";
import { showPhotos } from "./viewer.js";

/** @import { Linked } from "./link.js" */
/** @import { About, Fields } from "./server.js" */

const canvas = /** @type {HTMLCanvasElement} */ (byId("sheet"));
const server = new Server();
const sheet = new Sheet(canvas);
const tool = new Tool();
const filters = new Filters();
const search = new Search(server);
const feedback = new Feedback(server);
const results = new Results(search, server, feedback);

const notice = watch(server);
drawWithPointer(canvas, sheet, tool);
drawWithKeyboard(canvas, sheet, tool);
showSheet(sheet);
showBrush(canvas, tool);
takePictures(sheet);
showReference(search, server);
showPhotos(results, search, server);
listenToKeys(sheet, tool, filters);
closeDialogs();
keepAddress(search, restore);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment of the address is the drawing's
  results.focus();
});

sheet.addEventListener("change", () => {
  const { content } = sheet;
  let { reference } = search.wanted;
  if (content.picture) reference = null; // only strokes can be mixed with a photo
  else if (reference?.share === 0 && content.strokes.length > 0) reference = { ...reference, share: 0.5 }; // someone draws to change the photos
  search.soon({ content, reference });
});
filters.addEventListener("change", () => search.now({ where: filters.where }));

/** @param {Linked} linked */
function restore({ strokes, where, reference }) {
  sheet.replace([...strokes]);
  filters.restore(where);
  search.now({ content: sheet.content, where: filters.where, reference });
}

async function begin() {
  restore(linked());
  try {
    const about = /** @type {About} */ (await server.get("about"));
    byId("about").textContent = photos(about.photos);
    tool.setUsual(about.stroke_width);
    sheet.limits = about.limits;
    search.limits = about.limits;
    feedback.wanted = about.feedback;
    results.refresh();
    const { fields } = /** @type {{fields: Fields}} */ (await server.get("fields"));
    filters.offer(fields);
  } catch (error) {
    notice(/** @type {Error} */ (error).message);
  }
}

begin();

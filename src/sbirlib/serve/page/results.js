/** The grid of photos: it follows the search without flicker, and grows on scrolling. */

import { Card } from "./card.js";
import { byId, element, photos, readable } from "./dom.js";

/** @import { Hit } from "./server.js" */
/** @import { Feedback } from "./feedback.js" */
/** @import { Search } from "./search.js" */
/** @import { Server } from "./server.js" */

const SKELETONS = 12;

/** Fires "open", with the number of a photo, when someone wants to see it large. */
export class Results extends EventTarget {
  /** @type {Hit[]} */ hits = [];
  /** @type {Map<string, Card>} */ #cards = new Map();
  /** @type {Search} */ #search;
  /** @type {Server} */ #server;
  /** @type {Feedback} */ #feedback;
  #grid = byId("grid");
  #more = /** @type {HTMLButtonElement} */ (byId("more"));
  /** @type {IntersectionObserver} */ #end;

  /**
   * @param {Search} search
   * @param {Server} server
   * @param {Feedback} feedback
   */
  constructor(search, server, feedback) {
    super();
    this.#search = search;
    this.#server = server;
    this.#feedback = feedback;
    search.addEventListener("busy", () => this.#showBusy());
    search.addEventListener("query", () => search.isBlank && this.#show([]));
    search.addEventListener("answer", () => {
      this.#show(search.answer?.hits ?? []);
      this.#scrollBack();
    });
    search.addEventListener("more", () => this.#append(search.answer?.hits ?? []));
    search.addEventListener("failure", () => this.#refuse());
    this.#more.addEventListener("click", () => search.more());
    this.#end = new IntersectionObserver((entries) => entries.at(-1)?.isIntersecting && search.more(), { rootMargin: "600px" });
    this.#show([]);
  }

  /** Move the focus to the photos, for a search that was begun elsewhere. */
  focus() {
    byId("results").focus({ preventScroll: true });
    this.#scrollBack();
  }

  /** Follow what the server has told about itself since the photos came. */
  refresh() {
    for (const card of this.#cards.values()) this.#feedback.attach(card, this.#search.query);
    if (this.#search.answer) this.#describe();
  }

  /** Scroll to the first photos, where they have been scrolled away. */
  #scrollBack() {
    if (byId("results").getBoundingClientRect().top < 0) byId("results").scrollIntoView();
  }

  /** @param {Hit[]} hits */
  #show(hits) {
    const former = this.#cards;
    this.#cards = new Map();
    this.hits = [];
    this.#grid.replaceChildren(...this.#take(hits, former));
    this.#describe();
  }

  /** @param {Hit[]} hits */
  #append(hits) {
    this.#grid.append(...this.#take(hits, new Map()));
    this.#describe();
  }

  /**
   * Cards of hits. One that was shown before is used again, with its image; a photo that is shown already, because the index grew, is left out.
   * @param {Hit[]} hits
   * @param {Map<string, Card>} former
   */
  #take(hits, former) {
    const fresh = hits.filter(({ id }) => !this.#cards.has(id));
    return fresh.map((hit) => {
      const card = former.get(hit.id) ?? this.#card(hit);
      card.show(hit);
      this.#feedback.attach(card, this.#search.query);
      this.#cards.set(hit.id, card);
      this.hits.push(hit);
      return card.node;
    });
  }

  /** @param {Hit} hit */
  #card(hit) {
    const card = new Card(hit, this.#server);
    card.button.addEventListener("click", () => {
      const detail = this.hits.findIndex(({ id }) => id === hit.id);
      this.dispatchEvent(new CustomEvent("open", { detail }));
    });
    return card;
  }

  /** How many photos are shown, and the words where there are none. */
  #describe() {
    const { answer, hasMore, isBlank } = this.#search;
    const total = answer?.total ?? 0;
    const count = this.hits.length;
    byId("start").hidden = !isBlank;
    byId("count").textContent = count === 0 ? "" : `${count < total ? `${readable(count)} of ` : ""}${photos(total)}, best first`;
    this.#more.hidden = !hasMore;
    this.#end.disconnect(); // and looks afresh, for the end may be in sight still
    if (hasMore) this.#end.observe(this.#more);
    byId("end").hidden = hasMore || count === 0;
    byId("end").textContent = count < total ? `These are the best ${readable(count)}. Draw more, or filter, to see others.` : "That is all.";
    const none = answer && total === 0 ? "No photo passes these filters." : "No photo was found.";
    this.#say(answer && count === 0 ? answer.message ?? none : "");
  }

  #refuse() {
    const { refusal, answer, hasMore } = this.#search;
    if (!answer) this.#show([]);
    this.#more.hidden = !hasMore; // further photos that were refused can be asked for again
    this.#say(refusal?.message ?? "");
  }

  #say(/** @type {string} */ sentence) {
    const message = byId("message");
    message.textContent = sentence;
    message.hidden = sentence === "";
  }

  #showBusy() {
    const { busy, isBlank } = this.#search;
    const results = byId("results");
    results.classList.toggle("busy", busy);
    this.#grid.setAttribute("aria-busy", String(busy));
    if (!busy || isBlank || this.#grid.childElementCount > 0) return;
    byId("start").hidden = true;
    this.#say("");
    const skeleton = () => element("li", { className: "card skeleton", "aria-hidden": true }, element("span", { className: "frame loading" }));
    this.#grid.replaceChildren(...Array.from({ length: SKELETONS }, skeleton));
  }
}

/** Requests to the server, repeated with growing delay while it is away or busy. */

/** @typedef {string | number | boolean | null} Value  of a field of a photo's record */
/** @typedef {Record<string, Value[]>} Where  keeps photos whose fields have one of these values */
/** @typedef {{id: string, rank: number, score: number, name: string, record: Record<string, Value>}} Hit */
/** @typedef {{hits: Hit[], total: number, offset: number, message: string | null}} Answer */
/** @typedef {{k: number, depth: number, bytes: number, strokes: number, points: number}} Limits  depth: photos that scrolling reaches */
/** @typedef {{photos: number, stroke_width: number, feedback: boolean, limits: Limits}} About */
/** @typedef {Record<string, {distinct: number, values: {value: Value, count: number}[]}>} Fields */

const DELAYS = [1, 2, 4, 8, 15]; // seconds before each new try; the last one stays
const PATIENCE = 40; // seconds for an answer, a little more than the server allows itself
const NO_TOKEN = "This server asks for a token, and this page has none that is valid. Open the address that the server printed when it started.";
const AWAY = [502, 503, 504]; // of a proxy or of a busy server: the same request may succeed later

/** The server's refusal of a request, with its word. */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {string} sentence
   */
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** Fires "trouble" when an answer fails to come and the request will be repeated, "fine" when answers come again or nobody waits for one. */
export class Server extends EventTarget {
  trouble = "";
  /** @type {Promise<unknown> | null} */ #health = null;
  #waiting = 0; // requests that will be repeated

  /**
   * @param {string} path  relative to the page, wherever that is mounted
   * @param {AbortSignal} [signal]
   */
  get(path, signal) {
    return this.#ask(path, { method: "GET" }, signal);
  }

  /**
   * @param {string} path
   * @param {Blob | object} body  bytes with their type, or what becomes JSON
   * @param {AbortSignal} [signal]
   */
  post(path, body, signal) {
    const [type, bytes] = body instanceof Blob ? [body.type, body] : ["application/json", JSON.stringify(body)];
    return this.#ask(path, { method: "POST", headers: { "Content-Type": type }, body: bytes }, signal);
  }

  /** Wait until the server answers; however many wait, it is asked once at a time. */
  async back() {
    this.#health ??= this.get("health").finally(() => (this.#health = null));
    await this.#health.catch(() => null); // a refusal is an answer as well
  }

  /** Repeat now what waits for its turn. */
  hurry() {
    this.dispatchEvent(new Event("hurry"));
  }

  /**
   * @param {string} path
   * @param {RequestInit} options
   * @param {AbortSignal} [signal]
   */
  async #ask(path, options, signal) {
    let waits = false;
    try {
      for (let tries = 0; ; tries++) {
        const answer = await attempt(path, options, signal);
        if (answer && !AWAY.includes(answer.status)) {
          this.#fine();
          return content(answer);
        }
        if (!waits) this.#waiting++;
        waits = true;
        this.#tell(answer);
        await this.#pause(delay(tries, answer), signal);
      }
    } finally {
      if (waits) this.#waiting--;
      if (waits && signal?.aborted) setTimeout(() => this.#waiting || this.#fine(), 2000); // unless a next request waits by then
    }
  }

  #tell(/** @type {Response | null} */ answer) {
    this.trouble = answer
      ? "The server is busy. Your search goes on by itself in a moment."
      : "The server does not answer. This page tries again, and goes on by itself once it is back.";
    this.dispatchEvent(new Event("trouble"));
  }

  #fine() {
    if (!this.trouble) return;
    this.trouble = "";
    this.dispatchEvent(new Event("fine"));
  }

  /**
   * @param {number} seconds
   * @param {AbortSignal} [signal]
   */
  async #pause(seconds, signal) {
    signal?.throwIfAborted();
    const over = new AbortController(); // takes all listeners away
    await new Promise((resolve) => {
      const { signal: end } = over;
      const timer = setTimeout(resolve, 1000 * seconds);
      for (const [target, type] of /** @type {const} */ ([[this, "hurry"], [window, "online"], [signal, "abort"]])) {
        target?.addEventListener(type, resolve, { signal: end });
      }
      end.addEventListener("abort", () => clearTimeout(timer));
    });
    over.abort();
    signal?.throwIfAborted();
  }
}

/**
 * One try, to the last byte; null where no answer comes.
 * @param {string} path
 * @param {RequestInit} options
 * @param {AbortSignal} [signal]
 */
async function attempt(path, options, signal) {
  const patience = AbortSignal.timeout(1000 * PATIENCE);
  try {
    const response = await fetch(path, { ...options, signal: signal ? AbortSignal.any([signal, patience]) : patience });
    const { ok, status, headers } = response;
    return { ok, status, retryAfter: Number(headers.get("Retry-After")), text: await response.text() };
  } catch {
    signal?.throwIfAborted();
    return null;
  }
}

/** @typedef {NonNullable<Awaited<ReturnType<typeof attempt>>>} Response */

/**
 * Seconds until the next try.
 * @param {number} tries
 * @param {Response | null} answer
 */
function delay(tries, answer) {
  const wish = answer?.retryAfter ?? 0;
  const growing = DELAYS[Math.min(tries, DELAYS.length - 1)];
  return (wish > 0 ? Math.min(60, wish) : growing) * (1 + Math.random() / 4); // pages that lost the server together do not return together
}

/**
 * @param {Response} answer
 */
function content({ ok, status, text }) {
  const body = parsed(text);
  if (ok) return body;
  throw new Refusal(status, status === 401 ? NO_TOKEN : sentence(body?.detail));
}

/**
 * The server's reason as a sentence; it is a list where a body does not fit its schema.
 * @param {unknown} detail
 */
function sentence(detail) {
  if (typeof detail !== "string" || detail === "") return "The server did not accept this request.";
  return detail.charAt(0).toUpperCase() + detail.slice(1) + (/[.!?]$/.test(detail) ? "" : ".");
}

function parsed(/** @type {string} */ text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // an empty answer, or a proxy's page
  }
}

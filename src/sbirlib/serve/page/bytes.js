/** Small numbers as few bytes, and bytes as text that a link can hold. */

export class Writer {
  /** @type {number[]} */ #bytes = [];

  /** A number from 0 on, seven bits to a byte, low ones first (LEB128). */
  unsigned(/** @type {number} */ value) {
    for (; value > 127; value = Math.floor(value / 128)) this.#bytes.push((value % 128) + 128);
    this.#bytes.push(value);
  }

  /** Any number: 0, -1, 1, -2, ... become 0, 1, 2, 3, ... so that a small one takes one byte whatever its sign. */
  signed(/** @type {number} */ value) {
    this.unsigned(value < 0 ? -2 * value - 1 : 2 * value);
  }

  /** All bytes as base64url. */
  text() {
    const binary = this.#bytes.map((byte) => String.fromCharCode(byte)).join("");
    return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }
}

/** Reads what Writer wrote, which anyone may have changed: a RangeError where it ends early. */
export class Reader {
  #bytes;
  #next = 0;

  /** @param {string} text */
  constructor(text) {
    this.#bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  }

  get left() {
    return this.#bytes.length - this.#next;
  }

  unsigned() {
    let value = 0;
    for (let place = 1; place < 2 ** 35; place *= 128) {
      if (this.left === 0) throw new RangeError("the text ends within a number");
      const byte = this.#bytes[this.#next++];
      value += (byte % 128) * place;
      if (byte < 128) return value;
    }
    throw new RangeError("a number is too long");
  }

  signed() {
    const value = this.unsigned();
    return value % 2 === 1 ? -(value + 1) / 2 : value / 2;
  }
}

/** What is given is no picture, or not one that the model takes. */
export class PictureError extends Error {
  /** @param {string} message what is wrong, in one line */
  constructor(message) {
    super(message);
    this.name = 'PictureError';
    this.code = 'ERR_PICTURE';
  }
}

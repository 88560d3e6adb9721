/** One class: its index, its name where the model has names, and its probability from 0 to 1. */
export interface Guess {
  readonly index: number;
  readonly label: string | null;
  readonly probability: number;
}

/** Pixels row by row, each of `channels` bytes from 0, black, to 255. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  /** 1 for grey, 2 for grey and alpha, 3 for red, green and blue, 4 for those and alpha; by the length if left out. */
  readonly channels?: 1 | 2 | 3 | 4;
  readonly data: Uint8Array | Uint8ClampedArray;
}

/** The bytes of a JPEG or PNG file, or pixels. */
export type Picture = Uint8Array | Pixels;

/** What `decode` gives: pixels that are upright and opaque. */
export interface Decoded {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly data: Uint8Array;
}

export interface DecodeOptions {
  /** 3 for red, green and blue, which is the default, or 1 for grey. */
  channels?: 1 | 3;
  /** Grey level that shows through transparent pixels; 255. */
  background?: number;
  /** The most pixels that the picture may have; 100 million. */
  maxPixels?: number;
}

export interface LoadOptions {
  /** Where the package lies; the folder of this module. */
  folder?: string;
  /** How many threads one run may use; as many as ONNX Runtime thinks right. */
  threads?: number;
  /** Execution providers of ONNX Runtime in order of preference; `['cpu']`. */
  providers?: readonly string[];
}

export interface ClassifyOptions {
  /** How many classes to give; 5. */
  top?: number;
}

/** An input or output of the model; a name stands for a size that is left open. */
export interface TensorFacts {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly (number | string)[];
}

/** What `cnnport.json` says, as far as programs need it. */
export interface Manifest {
  readonly format: 1;
  readonly kind: string;
  readonly name: string;
  readonly cnnport: string;
  readonly model: {
    readonly file: string;
    readonly sha256: string;
    readonly bytes: number;
    readonly name: string;
    readonly opset: number;
    readonly precision: string;
  };
  readonly inputs: readonly TensorFacts[];
  readonly outputs: readonly TensorFacts[];
  readonly picture: { readonly layout: 'nhwc' | 'nchw'; readonly preprocess: 'normalize' | 'full'; readonly top: number };
  readonly preprocess: {
    readonly size: readonly [number, number];
    readonly resize: number | null;
    readonly interpolation: 'bilinear' | 'bicubic';
    readonly mean: readonly number[];
    readonly std: readonly number[];
    readonly background: number;
    readonly channels: 1 | 3;
  };
  readonly labels: readonly string[] | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly licence: string;
  readonly example: {
    readonly file: string;
    readonly height: number;
    readonly width: number;
    readonly top: readonly { readonly index: number; readonly probability: number }[];
    readonly tolerance: number;
  };
  readonly files: Readonly<Record<string, string>>;
}

/** What is given is no picture, or not one that the model takes. */
export class PictureError extends Error {
  constructor(message: string);
  readonly code: 'ERR_PICTURE';
}

/** A picture classifier. */
export class Model {
  private constructor(manifest: Manifest, session: unknown);

  /**
   * Load the model and check that it is the one that was packaged.
   *
   * @throws Error if a file is missing or damaged
   */
  static load(options?: LoadOptions): Promise<Model>;

  readonly manifest: Manifest;
  readonly name: string;
  /** Class names by index; null if the model has none. */
  readonly labels: readonly string[] | null;
  readonly classes: number;
  /** 3 if the network looks at colours, 1 if at grey levels; pictures may have either. */
  readonly channels: 1 | 3;
  /** Grey level that shows through transparent pixels. */
  readonly background: number;
  /** The size that every picture must have; null if any will do. */
  readonly size: { readonly height: number; readonly width: number } | null;

  /** The most probable classes of one picture, best first. Rejects with `PictureError`. */
  classify(image: Picture, options?: ClassifyOptions): Promise<Guess[]>;

  /** The same for each of several pictures; those of one size run together. Rejects with `PictureError`. */
  classifyAll(images: readonly Picture[], options?: ClassifyOptions): Promise<Guess[][]>;

  /** The probability of every class, for each picture. Rejects with `PictureError`. */
  probabilities(images: readonly Picture[]): Promise<Float32Array[]>;

  /** Free the model; it cannot be used any more. */
  dispose(): Promise<void>;
}

/**
 * Decode a JPEG or PNG file: upright, opaque and in the colours that are wanted.
 *
 * @throws PictureError if it is neither, or damaged, or too large
 */
export function decode(bytes: Uint8Array, options?: DecodeOptions): Decoded;

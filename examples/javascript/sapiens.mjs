// Asks a server over KServe's HTTP protocol with binary tensors: docs/protocol.md. For all that has `fetch`:
// browsers, Node from 18 on, Deno, Bun.

const ARRAYS = { BOOL: Uint8Array, UINT8: Uint8Array, INT32: Int32Array, FP32: Float32Array };

/** An answer of the server that is no result. */
export class SapiensError extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/**
 * Ask a model.
 * @param {string} server Where it is, such as "http://127.0.0.1:8000"; "" in a page of the same origin.
 * @param {string} model Its name.
 * @param {Object<string, {datatype: string, shape: number[], data: Uint8Array|Float32Array}>} inputs By name.
 * @param {string[]} outputs What is wanted.
 * @param {{timeoutMs?: number, headers?: Object<string, string>, id?: string}} options
 * @returns {Promise<Object<string, {shape: number[], data: ArrayLike<number>}>>} Outputs by name, rows first.
 */
export async function infer(server, model, inputs, outputs, { timeoutMs = 60_000, headers = {}, id } = {}) {
  const described = Object.entries(inputs).map(([name, { datatype, shape, data }]) => ({
    name, datatype, shape, parameters: { binary_data_size: data.byteLength },
  }));
  const json = new TextEncoder().encode(JSON.stringify({
    id,
    parameters: { timeout: timeoutMs * 1000 }, // microseconds after which queues drop the request
    inputs: described,
    outputs: outputs.map((name) => ({ name, parameters: { binary_data: true } })),
  }));
  const reply = await fetch(`${server}/v2/models/${encodeURIComponent(model)}/infer`, {
    method: "POST",
    headers: {
      ...headers,
      "Content-Type": "application/octet-stream",
      "Inference-Header-Content-Length": String(json.byteLength),
    },
    body: new Blob([json, ...Object.values(inputs).map(({ data }) => data)]),
    signal: AbortSignal.timeout(timeoutMs),
  });
  if (!reply.ok) throw new SapiensError(sentenceIn(await reply.text()), reply.status);
  return tensorsIn(await reply.arrayBuffer(), Number(reply.headers.get("Inference-Header-Content-Length")));
}

/** Relative depth of every pixel; `image`: the bytes of a JPEG, PNG, WebP, BMP or TIFF file. */
export async function depth(server, image, options) {
  return (await infer(server, "depth", { image: file(image) }, ["depth"], options)).depth;
}

/** The class of every pixel. */
export async function seg(server, image, options) {
  return (await infer(server, "seg", { image: file(image) }, ["class_map"], options)).class_map;
}

/** Keypoints (N, K, 2) and scores (N, K) of the persons in boxes (x0, y0, x1, y1), pixels. */
export async function pose(server, image, boxes, options) {
  const bboxes = { datatype: "FP32", shape: [boxes.length, 4], data: new Float32Array(boxes.flat()) };
  return infer(server, "pose", { image: file(image), bboxes }, ["keypoints", "scores"], options);
}

/** Keypoints, scores and boxes of everybody in an image. */
export async function people(server, image, options) {
  return infer(server, "people_pose", { image: file(image) }, ["keypoints", "scores", "person_bboxes"], options);
}

function file(bytes) {
  return { datatype: "UINT8", shape: [bytes.byteLength], data: bytes };
}

/** JSON comes first, then the tensors that it describes, one after the other. */
function tensorsIn(body, jsonLength) {
  const { outputs } = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 0, jsonLength)));
  let start = jsonLength;
  return Object.fromEntries(outputs.map(({ name, datatype, shape, parameters }) => {
    const end = start + parameters.binary_data_size;
    const data = new ARRAYS[datatype](body.slice(start, end)); // a copy, which begins at a multiple of its items
    start = end;
    return [name, { shape, data }];
  }));
}

function sentenceIn(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return text;
  }
}

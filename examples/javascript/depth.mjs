// node depth.mjs PHOTO OUTPUT.f32 [SERVER]: writes the depth as float32, row after row, and tells its size.
import { readFile, writeFile } from "node:fs/promises";
import { depth, SapiensError } from "./sapiens.mjs";

const [photo, output, server = "http://127.0.0.1:8000"] = process.argv.slice(2);
try {
  const { shape, data } = await depth(server, await readFile(photo));
  await writeFile(output, data);
  console.log(`${shape[0]} x ${shape[1]}`);
} catch (error) {
  if (!(error instanceof SapiensError)) throw error;
  console.error(`${error.status}: ${error.message}`);
  process.exitCode = 1;
}

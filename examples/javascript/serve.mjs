// node serve.mjs [SERVER] [PORT]: the page at http://127.0.0.1:PORT, and the server behind it at the same origin.
// Triton sends no CORS headers, so a browser must not see that it is another server.
import { readFile } from "node:fs/promises";
import { createServer, request } from "node:http";

const [server = "http://127.0.0.1:8000", port = "8088"] = process.argv.slice(2);
const PAGES = {
  "/": ["page.html", "text/html; charset=utf-8"],
  "/sapiens.mjs": ["sapiens.mjs", "text/javascript"],
};
const FORWARDED = /^\/v2\/models\/[\w.-]+\/infer$/; // nothing that changes the server, nor tells of it

function forward(asked, answer) {
  const { host, connection, ...headers } = asked.headers;
  const onward = request(new URL(asked.url, server), { method: "POST", headers }, (reply) => {
    answer.writeHead(reply.statusCode, reply.headers);
    reply.pipe(answer);
  });
  onward.on("error", (error) => answer.writeHead(502).end(JSON.stringify({ error: error.message })));
  answer.on("close", () => onward.destroy()); // who leaves does not want the answer
  asked.pipe(onward);
}

const listening = createServer(async (asked, answer) => {
  const { pathname } = new URL(asked.url, "http://page");
  if (asked.method === "POST" && FORWARDED.test(asked.url)) {
    forward(asked, answer);
  } else if (pathname in PAGES) {
    const [name, type] = PAGES[pathname];
    answer.writeHead(200, { "Content-Type": type }).end(await readFile(new URL(name, import.meta.url)));
  } else {
    answer.writeHead(404).end();
  }
});
listening.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${listening.address().port}`);
});

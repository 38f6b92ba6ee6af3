// A function as a developer writes it with Express: it does what it is asked, with https as its client. With PROPAGATE its
// OpenTelemetry passes the trace on that came with the message. It says where it listens: express_function.js PORT.
"use strict";

if (process.env.PROPAGATE) {
  const { NodeTracerProvider } = require("@opentelemetry/sdk-trace-node");
  const { registerInstrumentations } = require("@opentelemetry/instrumentation");
  const { HttpInstrumentation } = require("@opentelemetry/instrumentation-http");
  new NodeTracerProvider().register();
  registerInstrumentations({ instrumentations: [new HttpInstrumentation()] });
}

const https = require("https");
const express = require("express");

const size = Number(process.env.TOGETHER || 1);
let waiting = [];

// Resolves when as many wait.
function together() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (waiting.length < size) return;
    for (const each of waiting) each();
    waiting = [];
  });
}

function get(url) {
  return new Promise((resolve, reject) => {
    https.get(url, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    }).on("error", reject);
  });
}

const app = express();
app.use(express.json());
app.get("/healthz", (request, response) => response.send("well"));
app.post("/run", async (request, response) => {
  if (request.body.meet) await together();
  const statuses = [];
  for (const url of request.body.urls) statuses.push(await get(url));
  if (request.body.meet) await together();
  response.json({ statuses });
});
app.listen(Number(process.argv[2]), "127.0.0.1");

// fetch as Node has it: undici.
"use strict";

const fs = require("fs");
const {serve} = require("./steps.js");

serve(async (method, url) => {
  const answer = await fetch(url, {method, body: method === "POST" ? fs.readFileSync(process.env.BODY) : undefined});
  return {status: answer.status, text: await answer.text()};
});

// What the Node clients share: the steps come in on standard input, and each is answered by one line of JSON. The
// contract is in tests/support/clients.py.
"use strict";

const readline = require("readline");

// What a developer sees of an error: its text, and those of the errors behind it.
function why(error) {
  const own = error.code && !String(error.message).includes(error.code) ? `${error.code} ${error.message}` : error.message;
  return `${error.name}: ${own}` + (error.cause ? `, caused by ${why(error.cause)}` : "");
}

// `ask(method, url)` returns {status, text}, or a promise of it.
async function serve(ask) {
  for await (const line of readline.createInterface({input: process.stdin})) {
    const [step, method, ...urls] = line.split(" ");
    let answer;
    try {
      for (const url of urls) answer = await ask(method, url);
    } catch (error) {
      answer = {status: null, text: why(error)};
    }
    console.log(JSON.stringify({step, status: answer.status, text: answer.text}));
  }
}

module.exports = {serve, why};

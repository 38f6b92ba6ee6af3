// The server of the differential test that Node's own parser reads for: node_server.js LOG ADDRESS CERTIFICATE KEY, and
// "http2" behind them for HTTP/2 and nothing else.
'use strict';
const crypto = require('crypto');
const fs = require('fs');

const [log, address, certificate, key, protocol] = process.argv.slice(2);
const sightings = fs.openSync(log, 'a');
const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');
// As Python writes it: sighting.py names a line by its bytes.
const line = (fields) => '[' + fields.map((field) => JSON.stringify(field)).join(', ') + ']\n';

function serve(request, response) {
  const parts = [];
  let broken = false;
  const host = request.headers.host || request.headers[':authority'] || '';
  request.on('aborted', () => { broken = true; });
  request.on('error', () => { broken = true; });
  response.on('error', () => {});
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    // HTTP/2 ends also what was reset, and says nothing of it to a HEAD: it was no whole request.
    if (broken || (request.stream && request.stream.rstCode)) return;
    const body = Buffer.concat(parts);
    const seen = line([request.method, request.url, host, body.length, sha256(body)]);
    fs.writeSync(sightings, seen);
    const name = sha256(seen).slice(0, 16);
    response.setHeader('Seen', name);
    const form = request.url.slice(3, 4);
    if (form === 'n') {
      response.statusCode = 204;
      response.end();
      return;
    }
    const answer = `HTTP/1.1 200 OK\r\nSeen: 0000000000000000\r\n\r\n${name}`;
    if (form === 'c') {
      response.write(answer);
      response.end();
    } else {
      response.setHeader('Content-Length', request.method === 'HEAD' ? 0 : answer.length);
      response.end(answer);
    }
  });
}

const options = { keepAliveTimeout: 600000, maxHeaderSize: 131072 };
const tls = { ...options, cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
if (protocol === 'http2') {
  const http2 = { ...tls, settings: { maxHeaderListSize: 131072 }, maxHeaderListPairs: 300 };
  require('http2').createSecureServer(http2, serve).listen(443, address, 4096);
} else {
  require('http').createServer(options, serve).listen(80, address, 4096);
  require('https').createServer(tls, serve).listen(443, address, 4096);
}

// A WebSocket server on Node's http2: extended CONNECT (RFC 8441), each message back as it came. Prints "ready".
// Arguments: address, port, certificate, key.
'use strict';
const fs = require('fs');
const http2 = require('http2');

const [address, port, cert, key] = process.argv.slice(2);

// Whole frames, unmasked.
function* frames(state) {
  while (state.bytes.length >= 2) {
    let size = state.bytes[1] & 127;
    let at = 2;
    if (size > 125) {
      const long = size === 126 ? 2 : 8;
      if (state.bytes.length < at + long) return;
      size = long === 2 ? state.bytes.readUInt16BE(2) : Number(state.bytes.readBigUInt64BE(2));
      at += long;
    }
    if (!(state.bytes[1] & 128)) throw new Error('a frame without a mask');
    if (state.bytes.length < at + 4 + size) return;
    const mask = state.bytes.subarray(at, at + 4);
    const payload = Buffer.from(state.bytes.subarray(at + 4, at + 4 + size));
    for (let i = 0; i < size; ++i) payload[i] ^= mask[i & 3];
    const first = state.bytes[0];
    state.bytes = state.bytes.subarray(at + 4 + size);
    yield [first, payload];
  }
}

function frame(first, payload) {
  let head;
  if (payload.length > 65535) {
    head = Buffer.alloc(10);
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(payload.length), 2);
  } else if (payload.length > 125) {
    head = Buffer.alloc(4);
    head[1] = 126;
    head.writeUInt16BE(payload.length, 2);
  } else {
    head = Buffer.from([0, payload.length]);
  }
  head[0] = first;
  return Buffer.concat([head, payload]);
}

const server = http2.createSecureServer({
  cert: fs.readFileSync(cert),
  key: fs.readFileSync(key),
  settings: {enableConnectProtocol: true},
});
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  if (headers[':method'] !== 'CONNECT' || headers[':protocol'] !== 'websocket') {
    stream.respond({':status': 200});
    stream.end(`plain ${headers[':method']}`);
    return;
  }
  if (headers['sec-websocket-key'] !== undefined || headers['sec-websocket-version'] !== '13') {
    stream.respond({':status': 400});
    stream.end();
    return;
  }
  const answer = {':status': 200};
  if (headers['sec-websocket-protocol']) answer['sec-websocket-protocol'] = headers['sec-websocket-protocol'].split(',')[0];
  stream.respond(answer);
  const state = {bytes: Buffer.alloc(0)};
  stream.on('data', (data) => {
    state.bytes = Buffer.concat([state.bytes, data]);
    for (const [first, payload] of frames(state)) {
      if ((first & 15) === 9) {
        stream.write(frame(0x8a, payload));
      } else {
        stream.write(frame(first, payload));
        if ((first & 15) === 8) stream.end();
      }
    }
  });
  stream.on('end', () => stream.end());
});
server.listen(Number(port), address, () => console.log('ready'));

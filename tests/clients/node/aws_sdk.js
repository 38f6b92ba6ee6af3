// The AWS SDK's S3 client (version 3), one for each endpoint. The only setting is that it tries once: by itself it
// tries three times.
"use strict";

const crypto = require("crypto"), fs = require("fs");
const {serve, why} = require("./steps.js");
const s3 = require("@aws-sdk/client-s3");

const PART_BYTES = 5 << 20;
const clients = {};

function client(endpoint) {
  clients[endpoint] ??= new s3.S3Client({
    endpoint, region: "us-east-1", forcePathStyle: true, maxAttempts: 1,
    credentials: {accessKeyId: "tested", secretAccessKey: "tested"},
  });
  return clients[endpoint];
}

async function multipart(to, where, body) {
  const {UploadId} = await to.send(new s3.CreateMultipartUploadCommand(where));
  const Parts = [];
  for (let at = 0; at < body.length; at += PART_BYTES) {
    const PartNumber = Parts.length + 1, Body = body.subarray(at, at + PART_BYTES);
    const {ETag} = await to.send(new s3.UploadPartCommand({...where, UploadId, PartNumber, Body}));
    Parts.push({ETag, PartNumber});
  }
  const done = await to.send(new s3.CompleteMultipartUploadCommand({...where, UploadId, MultipartUpload: {Parts}}));
  return done.ETag;
}

async function act(to, action, Bucket, Key) {
  const body = () => fs.readFileSync(process.env.BODY);
  if (action === "PUT") return (await to.send(new s3.PutObjectCommand({Bucket, Key, Body: body()}))).ETag;
  if (action === "MULTIPART") return multipart(to, {Bucket, Key}, body());
  if (action === "LIST") {
    return (await to.send(new s3.ListObjectsV2Command({Bucket}))).Contents.map((found) => found.Key).join(" ");
  }
  const hash = crypto.createHash("sha256");
  for await (const part of (await to.send(new s3.GetObjectCommand({Bucket, Key}))).Body) hash.update(part);
  return hash.digest("hex");
}

serve(async (action, url) => {
  const [scheme, , host, bucket, key] = url.split("/");
  try {
    return {status: 200, text: await act(client(`${scheme}//${host}`), action, bucket, key)};
  } catch (error) {
    return {status: error.$metadata?.httpStatusCode ?? null, text: why(error)};
  }
});

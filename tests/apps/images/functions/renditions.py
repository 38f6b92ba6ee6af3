"""Makes smaller versions of a photo that was uploaded to S3, and notes them in DynamoDB."""

import os
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import boto3
import picture

s3 = boto3.client("s3")
dynamodb = boto3.client("dynamodb")

RENDITIONS = os.environ["RENDITIONS_BUCKET"]
TABLE = os.environ["TABLE"]
WIDTHS = (16, 32, 64, 128)


def note(key, **fields):
    dynamodb.put_item(TableName=TABLE, Item={"photo": {"S": key}, **fields})


def upload(key, original, width):
    target = f"{width}/{key.removeprefix('uploads/')}"
    smaller = original.scaled_to(width)
    s3.put_object(Bucket=RENDITIONS, Key=target, Body=smaller.data(), ContentType="image/x-portable-pixmap")
    return target


def handler(event, context):
    record = event["Records"][0]["s3"]
    bucket, key = record["bucket"]["name"], urllib.parse.unquote_plus(record["object"]["key"])
    data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        original = picture.parse(data)
    except ValueError as error:
        note(key, status={"S": "rejected"}, reason={"S": str(error)})
        return {"renditions": []}
    widths = [width for width in WIDTHS if width < original.width]
    with ThreadPoolExecutor(max_workers=4) as pool:
        made = list(pool.map(lambda width: upload(key, original, width), widths))
    note(
        key,
        status={"S": "ready"},
        width={"N": str(original.width)},
        height={"N": str(original.height)},
        renditions={"L": [{"S": each} for each in made]},
    )
    return {"renditions": made}

"""Adds up the files of a step. What the last reducer writes is the job's result."""

import json
from collections import Counter

import boto3

s3 = boto3.client("s3")


def handler(event, context):
    totals = Counter()
    for key in event["keys"]:
        totals.update(json.load(s3.get_object(Bucket=event["bucket"], Key=key)["Body"]))
    job = event["job"]
    key = f"{job}/result" if event["last"] else f"{job}/task/reducer/{event['step']}/{event['reducer']}"
    s3.put_object(Bucket=event["bucket"], Key=key, Body=json.dumps(totals))
    return {"keys": len(totals)}

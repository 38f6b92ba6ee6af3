"""Starts a MapReduce job over the objects below a prefix, and waits for its result."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

s3 = boto3.client("s3")
# A mapper is called once, however long it takes.
functions = boto3.client("lambda", config=Config(read_timeout=900, retries={"total_max_attempts": 1}))

MAPPER_BYTES = int(os.environ.get("MAPPER_BYTES", "6000"))  # what one mapper is given to read, at most
REDUCER_FILES = int(os.environ.get("REDUCER_FILES", "4"))  # how many files one reducer joins
POLL_SECONDS = float(os.environ.get("POLL_SECONDS", "5"))


def list_inputs(bucket, prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [found for page in pages for found in page.get("Contents", [])]


def batches(inputs):
    """The keys for each mapper."""
    made, size = [], 0
    for each in inputs:
        if not made or size + each["Size"] > MAPPER_BYTES:
            made.append([])
            size = 0
        made[-1].append(each["Key"])
        size += each["Size"]
    return made


def run_mapper(event, number, keys):
    payload = {
        "query": event["query"],
        "source_bucket": event["source_bucket"],
        "job_bucket": event["job_bucket"],
        "job": event["job"],
        "mapper": number,
        "keys": keys,
    }
    answer = functions.invoke(FunctionName="mapper", Payload=json.dumps(payload))
    result = json.load(answer["Payload"])
    if "FunctionError" in answer:
        raise RuntimeError(f"mapper {number} failed: {result}")
    return result["lines"]


def handler(event, context):
    bucket, job = event["job_bucket"], event["job"]
    work = batches(list_inputs(event["source_bucket"], event["prefix"]))
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [
                {
                    "LambdaFunctionArn": event["coordinator_arn"],
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": f"{job}/task"}]}},
                }
            ]
        },
    )
    description = {"mappers": len(work), "reducer_files": REDUCER_FILES}
    s3.put_object(Bucket=bucket, Key=f"{job}/jobdata", Body=json.dumps(description))
    with ThreadPoolExecutor(max_workers=9) as pool:
        lines = sum(pool.map(lambda each: run_mapper(event, *each), enumerate(work)))
    waiter = s3.get_waiter("object_exists")
    waiter.wait(Bucket=bucket, Key=f"{job}/result", WaiterConfig={"Delay": POLL_SECONDS, "MaxAttempts": 100})
    return {"mappers": len(work), "lines": lines}

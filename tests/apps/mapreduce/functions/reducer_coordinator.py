"""Called for every file that a mapper or reducer has written: starts the next step's reducers when a step is over."""

import json

import boto3

s3 = boto3.client("s3")
functions = boto3.client("lambda")


def read_json(bucket, key):
    return json.load(s3.get_object(Bucket=bucket, Key=key)["Body"])


def last_step(keys, job):
    """The number of the last step that has begun; 0: the mappers'."""
    return max((int(key.rpartition(".")[2]) for key in keys if key.startswith(f"{job}/reducerstate.")), default=0)


def handler(event, context):
    record = event["Records"][0]["s3"]
    bucket, job = record["bucket"]["name"], record["object"]["key"].split("/")[0]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{job}/")
    keys = [found["Key"] for page in pages for found in page["Contents"]]
    if f"{job}/result" in keys:
        return "the job is done"
    description = read_json(bucket, f"{job}/jobdata")
    step = last_step(keys, job)
    if step == 0:
        expected, written = description["mappers"], f"{job}/task/mapper/"
    else:
        expected, written = read_json(bucket, f"{job}/reducerstate.{step}")["reducers"], f"{job}/task/reducer/{step}/"
    files = sorted(key for key in keys if key.startswith(written))
    if len(files) < expected:
        return f"step {step} has {len(files)} of {expected} files"
    size = description["reducer_files"]
    groups = [files[at : at + size] for at in range(0, len(files), size)]
    for number, group in enumerate(groups):
        payload = {"bucket": bucket, "job": job, "keys": group, "step": step + 1, "reducer": number}
        payload["last"] = len(groups) == 1
        functions.invoke(FunctionName="reducer", InvocationType="Event", Payload=json.dumps(payload))
    state = {"reducers": len(groups)}
    s3.put_object(Bucket=bucket, Key=f"{job}/reducerstate.{step + 1}", Body=json.dumps(state))
    return f"step {step + 1} has {len(groups)} reducers"

"""Reads some of a job's inputs and writes what its query says of them: keys with numbers, which reducers add up."""

import json
import re
from collections import Counter

import boto3

s3 = boto3.client("s3")


def count_words(line):
    return Counter(re.findall(r"[a-z']+", line.lower()))


def pages_by_rank(line):
    """Of rankings (page, rank, average duration): how many pages have a rank over 50, by rank."""
    _, rank, _ = line.split(",")
    return {rank: 1} if int(rank) > 50 else {}


def revenue_by_network(line):
    """Of uservisits: the revenue of advertisements in cents, by the first bytes of the visitor's address."""
    fields = line.split(",")
    return {fields[0][:7]: round(float(fields[3]) * 100)}


QUERIES = {"wordcount": count_words, "rankings": pages_by_rank, "uservisits": revenue_by_network}


def handler(event, context):
    query = QUERIES[event["query"]]
    totals, lines = Counter(), 0
    for key in event["keys"]:
        text = s3.get_object(Bucket=event["source_bucket"], Key=key)["Body"].read().decode()
        for line in text.splitlines():
            totals.update(query(line))
            lines += 1
    s3.put_object(
        Bucket=event["job_bucket"], Key=f"{event['job']}/task/mapper/{event['mapper']}", Body=json.dumps(totals)
    )
    return {"lines": lines}

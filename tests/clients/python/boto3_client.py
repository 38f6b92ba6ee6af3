"""boto3's S3 client, one for each endpoint. The only setting is that it tries once: by itself it tries five times."""

import functools
import hashlib
import io

import boto3
import botocore.exceptions
import steps
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

MULTIPART = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)


@functools.cache
def client(endpoint):
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="tested",
        aws_secret_access_key="tested",
        config=config,
    )


def act(s3, action, bucket, key):
    if action == "PUT":
        return s3.put_object(Bucket=bucket, Key=key, Body=steps.body().read())["ETag"]
    if action == "MULTIPART":
        s3.upload_fileobj(io.BytesIO(steps.body().read()), bucket, key, Config=MULTIPART)
        return s3.head_object(Bucket=bucket, Key=key)["ETag"]
    if action == "LIST":
        return " ".join(found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"])
    return hashlib.sha256(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest()


def ask(action, url):
    scheme, _, host, bucket, key = url.split("/")
    try:
        return 200, act(client(f"{scheme}//{host}"), action, bucket, key)
    except botocore.exceptions.ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], steps.why(error)


steps.serve(ask)

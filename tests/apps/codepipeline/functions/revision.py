"""Files of the revision that a pipeline hands on: a zip archive in S3."""

import io
import zipfile

import boto3

s3 = boto3.client("s3")


def read(location, name):
    """The text of a file of the revision at {"bucketName", "objectKey"}."""
    archive = s3.get_object(Bucket=location["bucketName"], Key=location["objectKey"])["Body"].read()
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.read(name).decode()

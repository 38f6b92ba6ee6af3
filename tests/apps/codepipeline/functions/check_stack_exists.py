"""Says whether there is a stack of this name."""

import boto3
from botocore.exceptions import ClientError

cloudformation = boto3.client("cloudformation")


def handler(event, context):
    try:
        stack = cloudformation.describe_stacks(StackName=event["stack"])["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return False
        raise
    return stack["StackStatus"] != "REVIEW_IN_PROGRESS"

"""The status of the stack that is being created."""

import boto3

cloudformation = boto3.client("cloudformation")


def handler(event, context):
    return cloudformation.describe_stacks(StackName=event["stack"])["Stacks"][0]["StackStatus"]

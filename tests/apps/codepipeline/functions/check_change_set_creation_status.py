"""The status of the change set that is being created."""

import boto3

cloudformation = boto3.client("cloudformation")


def handler(event, context):
    described = cloudformation.describe_change_set(StackName=event["stack"], ChangeSetName=event["change_set"])
    return described["Status"]

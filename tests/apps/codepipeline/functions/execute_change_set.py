"""Executes the change set."""

import boto3

cloudformation = boto3.client("cloudformation")


def handler(event, context):
    cloudformation.execute_change_set(StackName=event["stack"], ChangeSetName=event["change_set"])
    return event["change_set"]

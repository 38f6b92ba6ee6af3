"""Says whether a change set can be executed without anybody looking at it: nothing is removed or replaced."""

import boto3

cloudformation = boto3.client("cloudformation")


def handler(event, context):
    described = cloudformation.describe_change_set(StackName=event["stack"], ChangeSetName=event["change_set"])
    changes = [change["ResourceChange"] for change in described["Changes"]]
    return all(each["Action"] != "Remove" and each.get("Replacement", "False") == "False" for each in changes)

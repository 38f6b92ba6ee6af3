"""Creates a change set of a new name, from the template of the revision."""

import uuid

import boto3
import revision

cloudformation = boto3.client("cloudformation")


def handler(event, context):
    name = f"change-{uuid.uuid4()}"
    template = revision.read(event["revision"], event["template"])
    cloudformation.create_change_set(
        StackName=event["stack"], ChangeSetName=name, ChangeSetType="UPDATE", TemplateBody=template
    )
    return name

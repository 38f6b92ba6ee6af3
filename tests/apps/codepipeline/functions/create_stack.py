"""Creates a stack from the template of the revision."""

import boto3
import revision

cloudformation = boto3.client("cloudformation")


def handler(event, context):
    template = revision.read(event["revision"], event["template"])
    return cloudformation.create_stack(StackName=event["stack"], TemplateBody=template)["StackId"]

"""In the function that a pipeline calls: it may start deployments, and what it says of them is believed."""

import json

import trigger


def _job(event):
    return event["CodePipeline.job"]


def claim_success_without_deploying(event):
    trigger.pipeline.put_job_success_result(jobId=_job(event)["id"])


def deploy_once_more(event):
    parameters = json.loads(_job(event)["data"]["actionConfiguration"]["configuration"]["UserParameters"])
    given = {"stack": "shop-of-an-attacker", "template": "template.json"}
    trigger.states.start_execution(stateMachineArn=parameters["state_machine"], input=json.dumps(given))


def stop_what_was_started(event):
    trigger.states.stop_execution(executionArn="arn:aws:states:us-east-1:123456789012:execution:deploy:none")


BEFORE = (claim_success_without_deploying,)
BEHIND = (deploy_once_more, stop_what_was_started)

"""The action in the pipeline: starts the state machine for a revision, and tells the pipeline how it goes on."""

import json

import boto3
import revision

pipeline = boto3.client("codepipeline")
states = boto3.client("stepfunctions")


def start(job, parameters):
    location = job["data"]["inputArtifacts"][0]["location"]["s3Location"]
    given = json.loads(revision.read(location, parameters["input_file"]))
    given["revision"] = location
    execution = states.start_execution(stateMachineArn=parameters["state_machine"], input=json.dumps(given))
    token = json.dumps({"execution": execution["executionArn"]})
    pipeline.put_job_success_result(jobId=job["id"], continuationToken=token)


def follow(job, token):
    execution = states.describe_execution(executionArn=json.loads(token)["execution"])
    if execution["status"] == "RUNNING":
        pipeline.put_job_success_result(jobId=job["id"], continuationToken=token)
    elif execution["status"] == "SUCCEEDED":
        pipeline.put_job_success_result(jobId=job["id"])
    else:
        fail(job, f"the execution ended as {execution['status']}")


def fail(job, message):
    pipeline.put_job_failure_result(jobId=job["id"], failureDetails={"type": "JobFailed", "message": message})


def handler(event, context):
    job = event["CodePipeline.job"]
    try:
        if "continuationToken" in job["data"]:
            follow(job, job["data"]["continuationToken"])
        else:
            start(job, json.loads(job["data"]["actionConfiguration"]["configuration"]["UserParameters"]))
    except Exception as error:
        fail(job, str(error))
    return "done"

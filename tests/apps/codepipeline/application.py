"""A deployment pipeline: CodePipeline starts a state machine of eight functions for each revision."""

import io
import json
import pathlib
import string
import zipfile

import application
import lambdas

_FOLDER = pathlib.Path(__file__).resolve().parent
_ENDPOINTS = {
    "trigger": (lambdas.S3, lambdas.STATES, lambdas.CODEPIPELINE),
    "check-stack-exists": (lambdas.CLOUDFORMATION,),
    "create-stack": (lambdas.S3, lambdas.CLOUDFORMATION),
    "check-stack-creation-status": (lambdas.CLOUDFORMATION,),
    "create-change-set": (lambdas.S3, lambdas.CLOUDFORMATION),
    "check-change-set-creation-status": (lambdas.CLOUDFORMATION,),
    "inspect-change-set": (lambdas.CLOUDFORMATION,),
    "execute-change-set": (lambdas.CLOUDFORMATION,),
    "delete-change-set": (lambdas.CLOUDFORMATION,),
}
PATHS = ("create", "change", "refuse")
_LETTERS = string.ascii_letters + string.digits


def _template(stack, topics):
    resources = {
        name: {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": f"{stack}-{name}"}} for name in sorted(topics)
    }
    return json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources})


class CodePipeline(application.Application):
    name = "codepipeline"

    def __init__(self, cloud):
        super().__init__(cloud)
        self._cloudformation, self._s3 = cloud.client("cloudformation"), cloud.client("s3")
        for name, endpoints in _ENDPOINTS.items():
            self.deploy(name, f"{name.replace('-', '_')}.handler", _FOLDER / "functions", endpoints)
        text = (_FOLDER / "state_machine.json").read_text()
        for name in _ENDPOINTS:
            text = text.replace("${%s}" % name, lambdas.arn(name))
        self._machine = cloud.states.deploy("deploy", json.loads(text))
        self._buckets = []  # of the pipelines that there are

    def _revision(self, random, stack, topics):
        """Puts a revision where a pipeline puts it: (bucket, key). The bucket's name ends in a number of the pipeline's
        own, as the console of CodePipeline makes them."""
        if not self._buckets or random.random() < 0.2:
            self._buckets.append(f"codepipeline-{lambdas.REGION}-{random.randint(10**11, 10**12 - 1)}")
            self.cloud.create_bucket(self._buckets[-1])
        bucket = random.choice(self._buckets)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("input.json", json.dumps({"stack": stack, "template": "template.json"}))
            made.writestr("template.json", _template(stack, topics))
            for number in range(random.randint(1, 5)):
                made.writestr(f"src/file{number}", random.randbytes(1024))
        key = "shop/Revision/" + "".join(random.choices(_LETTERS, k=7))
        self._s3.put_object(Bucket=bucket, Key=key, Body=archive.getvalue())
        return bucket, key

    def round(self, random, path=None):
        path = path or random.choice(PATHS)
        stack = f"shop-{random.getrandbits(32):08x}"
        before = {f"Topic{number}" for number in range(random.randint(1, 3))}
        wanted = {"create": before, "change": before | {"TopicNew"}, "refuse": {"TopicOther"}}[path]
        if path != "create":
            self._cloudformation.create_stack(StackName=stack, TemplateBody=_template(stack, before))
        bucket, key = self._revision(random, stack, wanted)
        action = self.cloud.pipelines.start(
            "trigger", {"state_machine": self._machine, "input_file": "input.json"}, bucket, key
        )
        self.cloud.settle()
        assert action.status == ("Failed" if path == "refuse" else "Succeeded"), (path, action.message)
        found = self._cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
        expected = before if path == "refuse" else wanted
        assert {each["LogicalResourceId"] for each in found} == expected, (path, found)
        self._cloudformation.delete_stack(StackName=stack)
        return f"{path}, {action.jobs} jobs"

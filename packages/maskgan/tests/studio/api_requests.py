"""What a page asks the studio for, and what is looked for in the answers."""

import base64
import io

import numpy as np
from flat_editor import SIZE, encoded, plain_mask, portrait_pixels
from PIL import Image
from retouch_common.testing.studio import ROOT

ADDRESS = f"{ROOT}/edit"


def upload(client, data=None, name="anna.png", **query):
    data = encoded(portrait_pixels()) if data is None else data
    return client.post("/api/photos", params={"name": name, **query}, content=data)


def opened(client, **options):
    answer = upload(client, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def edit(photo, labels=None, **more):
    labels = plain_mask(SIZE) if labels is None else labels
    return {"photo": photo["id"], "labels": base64.b64encode(labels.tobytes()).decode(), **more}


def picture(answer):
    return np.array(Image.open(io.BytesIO(answer.content)))


def refused(answer, status):
    assert answer.status_code == status, answer.text
    line = answer.json()["error"]
    assert line and "\n" not in line and "Traceback" not in line
    return line

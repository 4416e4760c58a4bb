"""TensorFlow Serving's REST interface; needs no TensorFlow.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import http.client
import json
import re
import time
from typing import Any
import urllib.error
import urllib.request

import numpy as np

from panet_tf import errors
from panet_tf.serving.client import wire

# JSON lists take many times their text's memory.
_MAX_ANSWER = wire.MAX_ANSWER // 4
_CHUNK = 1 << 16
_URL = re.compile(
    r'https?://[^/@\s]+(?:/[^/:@\s]+)*/models/[^/:\s]+(?:/versions/\d+)?')
# Not signed in, not allowed, no such model, no such service.
_NO_MODEL = (401, 403, 404, 405)


class RestServer:
  """A model behind http://host:8501/v1/models/panet."""

  def __init__(self, url: str, timeout: float):
    """As `client.open_server`; opens no connection yet."""
    if not _URL.fullmatch(url):
      raise errors.InputError(
          f'--url {url!r} should be http://HOST:8501/v1/models/NAME, or that '
          'with /versions/NUMBER')
    self._url, self._timeout = f'{url}:predict', timeout

  def predict(self, signature: str,
              inputs: list[bytes] | np.ndarray) -> dict[str, Any]:
    """Outputs of a signature, as nested lists, not checked.

    Args:
      signature: name.
      inputs: encoded images, or [B, H, W, 3] uint8.

    Raises:
      wire.RefusedError: the server does not answer these images.
      wire.NoServerError: there is no server, or none with this model.
    """
    values = inputs.tolist() if isinstance(inputs, np.ndarray) else [
        {'b64': base64.b64encode(data).decode('ascii')} for data in inputs]
    body = json.dumps({'signature_name': signature,
                       'inputs': {'inputs': values}}).encode('ascii')
    try:
      outputs = json.loads(self._post(body))['outputs']
    except (ValueError, KeyError, TypeError, RecursionError) as e:
      raise wire.RefusedError(
          f'{self._url} answers what is not JSON with "outputs"') from e
    if not isinstance(outputs, dict):
      raise wire.RefusedError(
          f'{self._url}: "outputs" has one without a name; not a model that '
          'export.py wrote')
    return outputs

  def _post(self, body):
    request = urllib.request.Request(
        self._url, body, {'Content-Type': 'application/json'})
    try:
      with urllib.request.urlopen(request, timeout=self._timeout) as answer:
        return self._read(answer)
    except urllib.error.HTTPError as e:
      kind = wire.NoServerError if e.code in _NO_MODEL else wire.RefusedError
      raise kind(f'{self._url}: {e.code} {_message(e)}') from e
    except TimeoutError as e:
      raise wire.RefusedError(self._late()) from e
    except urllib.error.URLError as e:
      # Connected, but the server hung up: over this request, perhaps.
      hung_up = isinstance(e.reason, (ConnectionResetError, BrokenPipeError))
      kind = wire.RefusedError if hung_up else wire.NoServerError
      raise kind(f'{self._url}: no answer ({e.reason})') from e
    except (http.client.HTTPException, OSError) as e:
      raise wire.RefusedError(
          f'{self._url}: broken answer ({type(e).__name__})') from e

  def _read(self, answer):
    """The body; the socket's own timeout begins anew with every byte."""
    end, chunks, size = time.monotonic() + self._timeout, [], 0
    while chunk := answer.read1(_CHUNK):
      chunks.append(chunk)
      size += len(chunk)
      if size > _MAX_ANSWER:
        raise wire.RefusedError(
            f'{self._url}: the answer has more than {_MAX_ANSWER >> 20} MB; '
            'ask by grpc://, or export without --full_image_masks')
      if time.monotonic() > end:
        raise wire.RefusedError(self._late())
    return b''.join(chunks)

  def _late(self):
    return f'{self._url}: no answer in {self._timeout:g} s; see --timeout'


def _message(error):
  """What the server says about an HTTP error."""
  try:
    text = json.loads(error.read(_CHUNK))['error']
  except (ValueError, KeyError, TypeError, RecursionError, OSError,
          http.client.HTTPException):
    text = error.reason
  return wire.one_line(str(text))

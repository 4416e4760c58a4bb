"""What an installation gets."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_a_wheel_has_every_file_of_the_package(tmp_path):
  source = tmp_path / 'source'
  shutil.copytree(ROOT / 'panet_tf', source / 'panet_tf',
                  ignore=shutil.ignore_patterns('__pycache__'))
  for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, source)
  subprocess.run(
      [sys.executable, '-c', 'from setuptools import build_meta; '
       f'build_meta.build_wheel({str(tmp_path)!r})'],
      cwd=source, check=True, capture_output=True)
  wheel, = tmp_path.glob('panet_tf-*.whl')
  with zipfile.ZipFile(wheel) as packed:
    found = {name: packed.read(name) for name in packed.namelist()
             if name.startswith('panet_tf/')}
  assert found == {
      path.relative_to(source).as_posix(): path.read_bytes()
      for path in (source / 'panet_tf').rglob('*') if path.is_file()}
  assert {'script.js', 'style.css', 'index.html'} <= {
      pathlib.PurePosixPath(name).name for name in found}

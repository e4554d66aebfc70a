"""The studio: a local web page with a tool for each installed paper.

guard, connections       access control, timeouts
tools, files, views      interface and discovery of tools; open photos and their previews
requests, server         parsing of requests, the web application
photos                   requests that tools for whole photos share
cli                      ``retouch-studio``
retouch/                 the tool Retouch
page/                    the shell: HTML, styles and JavaScript modules that tools share
"""

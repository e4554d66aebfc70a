"""The studio: a local web page with a tool for each installed paper.

guard, connections       who is answered, and for how long
tools, files             what a tool is, and how installed ones are found; photos' files that tools share
requests, server         reading requests, answering errors; the web application
cli                      ``retouch-studio``
page/                    the page's frame and its modules, which tools share
"""
